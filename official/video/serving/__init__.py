"""The exported SavedModel."""
