"""What only a cluster needs, or jobs that are spread over several shards."""
