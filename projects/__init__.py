"""The methods, one package each."""
