//! Every instruction of the assembler, decoded again by a decoder of others.
mod decoded;
