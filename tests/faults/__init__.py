"""What happens to what is damaged, at scale."""
