import { pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PAGE = 4096;

guestTest(
  'splice on a file opened for direct I/O and passthrough goes to the server (D8)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough-direct', id });
    const [end, into] = await client.pipe({});

    await client.write({ fd: into, data: 'abc' });
    t.is(await client.splice({ fdIn: end, fdOut: fd, offOut: 2, length: 3 }), 3);
    t.deepEqual(
      await fuse.opcodes({ opcode: ['READ', 'WRITE'] }),
      ['WRITE'],
      'splice to the file is a WRITE',
    );
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '01abc56789');
    for (const each of [end, into, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'a direct file may be mapped private, and shared only where the server allows it (D7)',
  async (t, guest) => {
    for (const allowed of [false, true]) {
      const init = allowed ? ({ addFlags: ['DIRECT_IO_ALLOW_MMAP'] } as const) : {};
      await using fuse = await mountWithModes(guest, { init });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
      for (const flags of ['O_RDWR', 'O_RDONLY']) {
        const fd = await openAs(client, fuse, { name: 'f', mode: 'direct', flags });
        const map = { fd, length: PAGE, prot: 'PROT_READ' };
        const how = `${flags}, shared ones ${allowed ? 'allowed' : 'not allowed'}`;
        t.is(await client.errno.mmap({ ...map, flags: 'MAP_PRIVATE' }), 'ok', `private, ${how}`);
        const shared = await client.errno.mmap({ ...map, flags: 'MAP_SHARED' });
        t.is(shared, allowed ? 'ok' : 'ENODEV', `shared, ${how}`);
        await client.close({ fd });
      }
    }
  },
);
