"""Changes to images and volumes on their way to the network: resizing, scaling, augmentation."""
