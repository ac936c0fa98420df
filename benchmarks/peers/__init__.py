"""The same training steps in PyTorch, run in turn with jaxlung's on one machine; see README.md."""
