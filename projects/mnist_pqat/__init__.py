"""The published study of sparsity- and cluster-preserving QAT, on MNIST."""
