"""What people look at: sentences, tables, figures, pictures and animations, and the page that holds them."""
