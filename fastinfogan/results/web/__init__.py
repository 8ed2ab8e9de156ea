"""What our pages share: how one is put together, how it looks, and what its buttons do."""
