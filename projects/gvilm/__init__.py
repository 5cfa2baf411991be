"""G-ViLM: video and language with spatial grounding and temporal grouping."""
