"""A read-only page about mounts and stores: ``modelfs ui``.

    server      the socket, the process, its end
    app         addresses -> pages; guard: who may ask, and what a browser may do with the answers
    watch       looks at the mounts every few seconds and remembers their throughput: pages ask it, never a mount
    stores      stores, opened when a page needs one, each with threads of its own
    history, savings, browse, caches     what pages say of them
    draw        pictures as geometry; templates make SVG of them

It is a process of its own. Whatever a page asks for runs in threads of a stated number, and a page that waits for too
long says so.
"""
