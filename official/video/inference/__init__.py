"""From files to answers: a trained model over videos as people have them."""
