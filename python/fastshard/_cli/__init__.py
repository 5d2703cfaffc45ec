"""The command line; a module for each larger command."""
