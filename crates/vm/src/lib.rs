//! One command in a virtual machine, with nothing but the files it is given.

pub mod image;
