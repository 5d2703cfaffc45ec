"""What can be packed. ``kinds`` recognises a source; each room below reads some kinds."""
