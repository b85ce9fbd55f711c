//! Registers by name: where they are, and the type of what they hold.

use core::fmt;
use core::marker::PhantomData;

use crate::HostSbdf;
use crate::config::{Access, ConfigAccess, ConfigOffset, Width};

/// What a register holds.
pub trait Value: Copy {
    /// Its width.
    const WIDTH: Width;

    /// From the register's bits; none above [`Value::WIDTH`] is set.
    fn from_bits(bits: u32) -> Self;

    /// The register's bits.
    fn to_bits(self) -> u32;
}

macro_rules! number {
    ($number:ty, $width:ident) => {
        impl Value for $number {
            const WIDTH: Width = Width::$width;

            fn from_bits(bits: u32) -> Self {
                bits as $number
            }

            fn to_bits(self) -> u32 {
                self.into()
            }
        }
    };
}

number!(u8, Byte);
number!(u16, Word);
number!(u32, Dword);

/// A register of config space that holds a `T` and is accessed with just that width.
pub struct Register<T> {
    access: Access,
    value: PhantomData<T>,
}

impl<T> Clone for Register<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Register<T> {}

impl<T> PartialEq for Register<T> {
    fn eq(&self, other: &Self) -> bool {
        self.access == other.access
    }
}

impl<T> Eq for Register<T> {}

impl<T> fmt::Debug for Register<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.access, f)
    }
}

impl<T: Value> Register<T> {
    /// The register at byte `offset`. For constants: a wrong offset does not compile.
    ///
    /// # Panics
    ///
    /// If the offset is beyond config space or not aligned.
    pub const fn at(offset: u16) -> Self {
        let offset = ConfigOffset::new(offset).expect("an offset beyond config space");
        match Self::new(offset) {
            Some(register) => register,
            None => panic!("a register that is not aligned"),
        }
    }

    /// The register at `offset`; `None` if that is not aligned to its width.
    pub const fn new(offset: ConfigOffset) -> Option<Self> {
        match Access::new(offset, T::WIDTH) {
            Some(access) => Some(Self {
                access,
                value: PhantomData,
            }),
            None => None,
        }
    }

    /// The access that reads or writes it.
    pub const fn access(self) -> Access {
        self.access
    }

    /// Where it is.
    pub const fn offset(self) -> ConfigOffset {
        self.access.offset()
    }
}

/// One function's config space.
pub struct Function<'a, C: ?Sized> {
    config: &'a C,
    sbdf: HostSbdf,
}

impl<C: ?Sized> Clone for Function<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: ?Sized> Copy for Function<'_, C> {}

impl<'a, C: ConfigAccess + ?Sized> Function<'a, C> {
    /// The config space of `sbdf`, which need not exist.
    pub const fn new(config: &'a C, sbdf: HostSbdf) -> Self {
        Self { config, sbdf }
    }

    /// Its name.
    pub const fn sbdf(self) -> HostSbdf {
        self.sbdf
    }

    /// Reads any access.
    pub fn read_access(self, access: Access) -> u32 {
        self.config.read(self.sbdf, access)
    }

    /// Writes any access.
    pub fn write_access(self, access: Access, value: u32) {
        self.config.write(self.sbdf, access, value);
    }

    /// Reads a register.
    pub fn read<T: Value>(self, register: Register<T>) -> T {
        let bits = self.config.read(self.sbdf, register.access());
        T::from_bits(bits & T::WIDTH.ones())
    }

    /// Writes a register.
    pub fn write<T: Value>(self, register: Register<T>, value: T) {
        let access = register.access();
        self.config.write(self.sbdf, access, value.to_bits());
    }
}
