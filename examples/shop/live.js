// Shows when the session of this page has ended, in whichever window or on whichever
// device that happened.
(() => {
	const user = document.currentScript.dataset.user;
	let events;
	const listen = () => {
		events = new EventSource("/events?user=" + encodeURIComponent(user));
		events.addEventListener("ended", () => {
			events.close();
			document.removeEventListener("visibilitychange", look);
			document.querySelectorAll("nav, .message").forEach(e => e.remove());
			document.querySelector("main").replaceChildren(document.querySelector("#ended").content.cloneNode(true));
		});
		// The browser tries again by itself, unless there was an answer that is no
		// stream, as when the store is down.
		const mine = events;
		events.addEventListener("error", () => {
			if (mine.readyState == EventSource.CLOSED && mine == events) setTimeout(look, 10_000);
		});
	};
	// A browser has six connections to a server, so a page that nobody sees does
	// not keep one.
	const look = () => {
		events?.close();
		if (!document.hidden) listen();
	};
	document.addEventListener("visibilitychange", look);
	look();
})();
