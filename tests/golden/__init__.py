"""Generated text held against files: adding a case is adding a file."""
