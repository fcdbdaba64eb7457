"""Tools of the house: run, test, write outputs, make the Colab and the blank edition."""
