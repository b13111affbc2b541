"""What tests of more than one kind share: servers, fixtures, waiting."""
