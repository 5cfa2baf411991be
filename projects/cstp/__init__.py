"""CSTP: contrastive spatio-temporal pretext learning (Zhang et al., AAAI 2022)."""
