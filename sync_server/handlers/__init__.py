"""What each client message leads to; one module a message, and the same functions behind the REST doors."""
