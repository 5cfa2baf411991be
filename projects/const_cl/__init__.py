"""ConST-CL: contextualized spatio-temporal contrastive learning (Yuan et al., CVPR 2022)."""
