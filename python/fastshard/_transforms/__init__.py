"""What is done to samples and batches: the options of transforms, as the core takes them."""
