import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register, type OpenMode } from '../lib/open-modes.ts';

/** Servers with a policy: who reads is passed through, who writes is served, to see what is written. */
const WRITERS: Readonly<Record<string, { readonly mode: OpenMode; readonly late: string }>> = {
  'direct I/O': { mode: 'direct', late: 'EIO' },
  'direct I/O that is passthrough, too': { mode: 'passthrough-direct', late: 'ok' },
};

for (const [what, { mode, late }] of Object.entries(WRITERS)) {
  guestTest(
    `readers in passthrough mode see what writers with ${what} send to the server (D13)`,
    async (t, guest) => {
      await using fuse = await mountWithModes(guest);
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const id = await register(fuse, 'f');
      const writer = await openAs(client, fuse, { name: 'f', mode, id });
      const reader = { name: 'f', mode: 'passthrough', id, flags: 'O_RDONLY' } as const;
      const before = await openAs(client, fuse, reader);
      await client.pwrite({ fd: writer, data: 'CON', offset: 0 });
      t.is(text(await client.pread({ fd: before, count: 100, offset: 0 })), 'CONtents', 'at once');
      await client.pwrite({ fd: writer, data: ' and more', offset: 8 });
      t.is(text(await client.pread({ fd: before, count: 100, offset: 0 })), 'CONtents and more', 'longer');
      const sent = await fuse.opcodes({ opcode: ['READ', 'WRITE'] });
      t.deepEqual(sent, ['WRITE', 'WRITE'], 'writes at the server, no read');
      await client.close({ fd: writer });

      const again = openAs(client, fuse, { name: 'f', mode, id, flags: 'O_RDWR' });
      const opened = await again.then(
        (fd) => fd,
        (error: unknown) => String(error),
      );
      const errno = typeof opened === 'number' ? 'ok' : opened.slice(opened.lastIndexOf(' ') + 1);
      t.is(errno, late, 'a writer that comes while somebody reads');
      if (typeof opened === 'number') await client.close({ fd: opened });
      await client.close({ fd: before });
      const alone = await openAs(client, fuse, { name: 'f', mode, id });
      await client.close({ fd: alone });
    },
  );
}

guestTest(
  'after BACKING_CLOSE an open inode takes neither the closed id nor a new one, until its last close (D4, K40)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.link({ from: fuse.backing('f'), to: fuse.backing('link') });
    const first = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id: first });
    t.is(await fuse.server.closeBacking(first), 'ok');
    // What a server does that has lost its memory: the same file once more.
    const second = await register(fuse, 'f');
    const errnoOf = async (mode: OpenMode, id: number): Promise<string> => {
      return openAs(client, fuse, { name: 'f', mode, id }).then(
        async (opened) => {
          await client.close({ fd: opened });
          return 'ok';
        },
        (error: unknown) => String(error).replace(/^.*: /, ''),
      );
    };
    t.is(await errnoOf('passthrough', first), 'EIO', 'the closed id');
    t.is(await errnoOf('passthrough', second), 'EIO', 'a new id of the same file');
    t.is(await errnoOf('passthrough-direct', second), 'EIO', 'the same with DIRECT_IO');
    t.is(await errnoOf('cached', 0), 'EIO', 'cached');
    t.is(await errnoOf('direct', 0), 'EIO', 'direct');
    t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents', 'the open file goes on');
    await client.close({ fd });
    t.is(await errnoOf('passthrough', first), 'EIO', 'the closed id stays closed');
    t.is(await errnoOf('passthrough', second), 'ok', 'the new one is the only one now');
    t.deepEqual(await fuse.dataRequests(), []);
    t.is(await fuse.server.closeBacking(second), 'ok');
  },
);
