"""MoCo v2 with a queue, as a package outside of the library would bring it."""
