"""`xl.cfg`: read as `xl` reads it, edited without disturbing what is there."""
