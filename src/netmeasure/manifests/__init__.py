"""Write manifests of Kubernetes for campaigns."""
