"""What people say about answers: the store of labels, the queue, statistics, export and what is trained on it. No torch."""
