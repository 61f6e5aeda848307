//! An elf in several versions, as it is during an upgrade.

/// Ships orders.
pub mod v1 {
    use elf_runtime::machine_elf;

    /// The first version.
    #[derive(Debug, Clone, Copy)]
    pub struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64) -> String {
            format!("{order} by 1")
        }
    }
}

/// Ships orders that say what customs are told.
pub mod v2 {
    use elf_runtime::machine_elf;

    /// The second version: it requires one more argument.
    #[derive(Debug, Clone, Copy)]
    pub struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64, customs: String) -> String {
            format!("{order} ({customs}) by 2")
        }
    }
}

/// Ships orders that are named by a text.
pub mod v3 {
    use elf_runtime::machine_elf;

    /// The third version: the names are those of the first, and a type is another.
    #[derive(Debug, Clone, Copy)]
    pub struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: String) -> String {
            format!("{order} by 3")
        }
    }
}

/// Ships orders of all kinds.
pub mod v4 {
    use elf_runtime::machine_elf;

    /// The fourth version: what the second requires may be left out.
    #[derive(Debug, Clone, Copy)]
    pub struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64, customs: Option<String>) -> String {
            format!("{order} ({}) by 4", customs.as_deref().unwrap_or("nothing"))
        }
    }
}
