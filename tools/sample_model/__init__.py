"""The parts of `tools/train_sample_model.py`: corpus, network, optimizer, training, evaluation."""
