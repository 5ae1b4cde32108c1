"""What comes of wrong configurations, damaged files and kills."""
