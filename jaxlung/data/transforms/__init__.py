"""What is done to images and volumes before the network: resize, scale, augment."""
