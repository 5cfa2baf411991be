"""What `evaluate` does: scores a trained model once, outside of training."""

OF_FEATURES = ('knn', 'retrieval', 'linear', 'linear_sgd', 'classify')
PROTOCOLS = (*OF_FEATURES, 'task')
