//! What instructions do, without their registers: what interpreter and translator choose code by.

/// The condition of a branch.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    GreaterEqual,
    LessUnsigned,
    GreaterEqualUnsigned,
}

/// An operation with two integers, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    Add,
    Sub,
    Sll,
    Slt,
    Sltu,
    Xor,
    Srl,
    Sra,
    Or,
    And,
    // M
    Mul,
    Mulh,
    Mulhsu,
    Mulhu,
    Div,
    Divu,
    Rem,
    Remu,
    // Zba
    AddUw,
    Sh1add,
    Sh2add,
    Sh3add,
    Sh1addUw,
    Sh2addUw,
    Sh3addUw,
    SllUw,
    // Zbb
    Andn,
    Orn,
    Xnor,
    Max,
    Maxu,
    Min,
    Minu,
    Rol,
    Ror,
    // Zbc
    Clmul,
    Clmulh,
    Clmulr,
    // Zbs
    Bclr,
    Bext,
    Binv,
    Bset,
    // Zicond
    CzeroEqz,
    CzeroNez,
    /// Zimop: the result is zero.
    Zero,
}

/// An operation with one integer, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Clz,
    Ctz,
    Cpop,
    Clzw,
    Ctzw,
    Cpopw,
    SextB,
    SextH,
    ZextH,
    OrcB,
    Rev8,
}

/// What an instruction of CSRs does with the old value and its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Csr {
    /// CSRRW: the operand is the new value.
    Write,
    /// CSRRS: bits that are set in the operand are set.
    Set,
    /// CSRRC: bits that are set in the operand are cleared.
    Clear,
}

/// An atomic operation, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    Swap,
    Add,
    Xor,
    And,
    Or,
    Min,
    Max,
    Minu,
    Maxu,
}

/// A format of floating point.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Half,
    Single,
    Double,
}

/// An operation with numbers of one precision, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
    /// `rd = n * m + a`.
    Madd,
    /// `rd = n * m - a`.
    Msub,
    /// `rd = -(n * m) + a`.
    Nmsub,
    /// `rd = -(n * m) - a`.
    Nmadd,
    Sgnj,
    Sgnjn,
    Sgnjx,
    Min,
    Max,
    /// Zfa: a NaN operand makes the result a NaN.
    Minm,
    Maxm,
    /// The result of the next six goes to a general register.
    Eq,
    Lt,
    Le,
    /// Zfa: as `Lt`, without a signal for quiet NaNs.
    Ltq,
    Leq,
    Class,
    /// Zfa: to an integral number.
    Round,
    /// Zfa: the same, which raises inexactness.
    RoundInexact,
    /// Zfa: one of 32 constants.
    LoadImmediate,
    /// FMV.X.W and its kin: the bits, to a general register.
    MoveToInteger,
    /// FMV.W.X and its kin.
    MoveFromInteger,
}

/// An operation with integers in vectors, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Sub,
    Rsub,
    Minu,
    Min,
    Maxu,
    Max,
    And,
    Or,
    Xor,
    Saddu,
    Sadd,
    Ssubu,
    Ssub,
    Sll,
    Smul,
    Srl,
    Sra,
    Ssrl,
    Ssra,
    Nsrl,
    Nsra,
    Nclipu,
    Nclip,
    Seq,
    Sne,
    Sltu,
    Slt,
    Sleu,
    Sle,
    Sgtu,
    Sgt,
    Andn,
    Rol,
    Ror,
    Wsll,
    Adc,
    Sbc,
    Madc,
    Msbc,
    Merge,
    Move,
    Aaddu,
    Aadd,
    Asubu,
    Asub,
    Divu,
    Div,
    Remu,
    Rem,
    Mulhu,
    Mul,
    Mulhsu,
    Mulh,
    Madd,
    Nmsub,
    Macc,
    Nmsac,
    Waddu,
    Wadd,
    Wsubu,
    Wsub,
    WadduWide,
    WaddWide,
    WsubuWide,
    WsubWide,
    Wmulu,
    Wmulsu,
    Wmul,
    Wmaccu,
    Wmacc,
    Wmaccus,
    Wmaccsu,
    RedSum,
    RedAnd,
    RedOr,
    RedXor,
    RedMinu,
    RedMin,
    RedMaxu,
    RedMax,
    Wredsumu,
    Wredsum,
    Zext8,
    Sext8,
    Zext4,
    Sext4,
    Zext2,
    Sext2,
    Brev8,
    Rev8,
    Brev,
    Clz,
    Ctz,
    Cpop,
    /// Zvbc: the low half of a product without carries; and the high one.
    Clmul,
    Clmulh,
}

/// An operation with masks, by what it finds.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    Andn,
    And,
    Or,
    Xor,
    Orn,
    Nand,
    Nor,
    Xnor,
    Count,
    First,
    BeforeFirst,
    OnlyFirst,
    IncludingFirst,
    Iota,
    Number,
}

/// A move of elements.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permute {
    Gather,
    GatherByHalves,
    SlideUp,
    SlideDown,
    SlideOneUp,
    SlideOneDown,
    Compress,
    ToScalar,
    FromScalar,
    ToFloat,
    FromFloat,
    Whole,
}

/// An operation with numbers of floating point in vectors, by the name of the instruction.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorFloat {
    Add,
    Sub,
    Min,
    Max,
    Sgnj,
    Sgnjn,
    Sgnjx,
    Eq,
    Le,
    Lt,
    Ne,
    Gt,
    Ge,
    Div,
    Rdiv,
    Mul,
    Rsub,
    Madd,
    Nmadd,
    Msub,
    Nmsub,
    Macc,
    Nmacc,
    Msac,
    Nmsac,
    Wadd,
    Wsub,
    WaddWide,
    WsubWide,
    Wmul,
    Wmacc,
    Wnmacc,
    Wmsac,
    Wnmsac,
    RedSum,
    RedMin,
    RedMax,
    WredSum,
    Merge,
    Sqrt,
    Rsqrt7,
    Rec7,
    Class,
    Convert,
}

/// An operation of cryptography on groups of elements.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crypto {
    AesDecrypt,
    AesDecryptLast,
    AesEncrypt,
    AesEncryptLast,
    /// VAESZ: adds the first round key.
    AesAdd,
    /// VAESKF1: the next round key of a key of 128 bits.
    AesKey128,
    /// VAESKF2: of one of 256 bits.
    AesKey256,
    /// VGHSH: adds and multiplies.
    Ghash,
    GhashMultiply,
    Sm4Key,
    Sm4Rounds,
    Sm3Rounds,
    Sm3Schedule,
    Sha2Schedule,
    Sha2High,
    Sha2Low,
}

/// What an instruction does. `size` is the logarithm of the bytes of an access.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// LUI: the immediate is the result.
    LoadUpper,
    /// AUIPC: the immediate is the result, an address.
    AddPc,
    /// JAL: the immediate is the target.
    Jump,
    /// JALR.
    JumpRegister,
    /// The immediate is the target.
    Branch(Comparison),
    Load {
        size: u8,
        signed: bool,
    },
    Store {
        size: u8,
    },
    Compute(Compute),
    ComputeImmediate(Compute),
    /// On 32 bits, with the result sign-extended.
    ComputeWord(Compute),
    ComputeWordImmediate(Compute),
    Unary(Unary),
    /// FENCE: the fields say which accesses are ordered.
    Fence,
    /// FENCE.TSO, PAUSE, hints, prefetches.
    Nothing,
    /// FENCE.I.
    FenceInstructions,
    EnvironmentCall,
    Breakpoint,
    /// With a register.
    Csr(Csr),
    /// With an immediate in the field of `rn`.
    CsrImmediate(Csr),
    LoadReserved {
        size: u8,
    },
    StoreConditional {
        size: u8,
    },
    Atomic {
        operation: Atomic,
        size: u8,
    },
    /// Zacas; `size` 4 is of pairs of registers.
    CompareSwap {
        size: u8,
    },
    /// CBO.ZERO.
    ZeroBlock,
    /// CBO.CLEAN, CBO.FLUSH: the block must be readable.
    TouchBlock,
    LoadFloat {
        size: u8,
    },
    StoreFloat {
        size: u8,
    },
    Float {
        operation: Float,
        precision: Precision,
    },
    /// FCVT.W.S and its kin.
    ToInteger {
        precision: Precision,
        wide: bool,
        unsigned: bool,
    },
    /// FCVT.S.W and its kin.
    FromInteger {
        precision: Precision,
        wide: bool,
        unsigned: bool,
    },
    /// FCVT.D.S and its kin.
    Convert {
        from: Precision,
        to: Precision,
    },
    /// FCVTMOD.W.D.
    ConvertModular,
    /// VSETVLI and its kin.
    SetVectors,
    Vector(Arithmetic),
    VectorFloat(VectorFloat),
    VectorMask(Mask),
    VectorPermute(Permute),
    VectorCrypto(Crypto),
    VectorLoad,
    VectorStore,
}
