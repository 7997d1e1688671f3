//! Every instruction of the assembler, decoded again by an independent decoder.
mod decoded;
