"""What every page shares: safe HTML, safe Markdown, SVG charts and the shell around them."""
