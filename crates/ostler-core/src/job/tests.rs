use super::*;

#[test]
fn ids() {
    for good in ["j", "query", "a-b_c.d:E9", &"x".repeat(64)] {
        assert!(JobId::new(good).is_ok(), "{good}");
    }
    for bad in ["", "a/b", "a b", "é", &"x".repeat(65)] {
        assert!(JobId::new(bad).is_err(), "{bad}");
    }
}
