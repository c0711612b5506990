import { bytes, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest(
  'linked io_uring requests on a passthrough file are done one after the other (A26)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const done = await client.uringChain({
      operations: [
        { op: 'pwrite', fd, data: bytes('aaaa'), offset: 2 },
        { op: 'pwrite', fd, data: bytes('bb'), offset: 4 },
        { op: 'pread', fd, count: 8, offset: 0 },
        { op: 'pwrite', fd, data: bytes('end'), offset: 10 },
        { op: 'fsync', fd },
        { op: 'pread', fd, count: 5, offset: 8 },
      ],
    });
    t.deepEqual(
      done.map(({ result }) => result),
      [4, 2, 8, 3, 0, 5],
    );
    t.is(text(done[2]?.data ?? new Uint8Array()), '01aabb67', 'what the reads see was written before');
    t.is(text(done[5]?.data ?? new Uint8Array()), '89end');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '01aabb6789end');
    t.is((await client.fstat({ fd })).size, 13);
    await client.close({ fd });
    t.deepEqual(await fuse.opcodes({ opcode: ['READ', 'WRITE', 'FSYNC'] }), ['FSYNC']);
  },
);

guestTest(
  'a chain of io_uring requests ends at the first that gets less than it asked for (A26)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const results: unknown[][] = [];
    for (const path of [fuse.backing('f'), fuse.file('f')]) {
      const fd = await client.open({ path, flags: 'O_RDWR' });
      const done = await client.uringChain({
        operations: [
          { op: 'pwrite', fd, data: bytes('first'), offset: 0 },
          { op: 'pread', fd, count: 10, offset: 5 },
          { op: 'pwrite', fd, data: bytes('never'), offset: 0 },
          { op: 'fsync', fd },
        ],
      });
      results.push(done.map(({ result }) => result));
      await client.close({ fd });
      t.is(text(await client.readFile({ path: fuse.backing('f') })), 'first56789', path);
    }
    const [native, passthrough] = results;
    t.deepEqual(native, [5, 5, 'ECANCELED', 'ECANCELED'], 'on the backing file itself');
    t.deepEqual(passthrough, native, 'through FUSE');
    t.deepEqual(await fuse.opcodes({ opcode: ['READ', 'WRITE', 'FSYNC'] }), []);
  },
);
