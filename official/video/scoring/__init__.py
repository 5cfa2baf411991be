"""What `evaluate` does: scores a trained model once, outside of training."""

OF_FEATURES = ('knn', 'retrieval', 'linear', 'classify')
PROTOCOLS = (*OF_FEATURES, 'task')
