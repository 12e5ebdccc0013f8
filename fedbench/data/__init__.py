"""Data sets, their readers, partitions of them over clients, augmentation and batches."""
