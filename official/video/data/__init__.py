"""From records on disk to batches: contract, samplers, decoding, reader."""
