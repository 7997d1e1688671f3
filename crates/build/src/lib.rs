//! Placeholder of this room until its code lands.
