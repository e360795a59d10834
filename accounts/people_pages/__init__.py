"""Pages of the admin that belong to no model: signing in, one's own account, looking as a tenant."""
