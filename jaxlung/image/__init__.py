"""Picture files (PNG, JPEG, TIFF) decoded to grey images and binary masks."""
