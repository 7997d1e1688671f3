//! Every instruction of the assembler, decoded again by another's decoder.
mod decoded;
