"""What a run leaves behind: numbers, pictures, and the generator as a file."""
