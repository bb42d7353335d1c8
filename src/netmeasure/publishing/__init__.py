"""Make reports of results that can be published: pages, pictures, and text."""
