package backchannel

// An Owner stands in for session.Owner.
type Owner struct{ Kind, ID string }
