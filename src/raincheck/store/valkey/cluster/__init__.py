"""What only several shards or several nodes need."""
