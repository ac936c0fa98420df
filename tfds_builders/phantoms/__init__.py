"""Generated downloads (phantoms) in the layout of each real one."""
