import { text } from '../lib/bytes.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { answerRequest, initBody, nextRequest } from '../lib/raw-server.ts';

/** How long an answer to INIT may be: it has grown since, and a server of an older protocol has less to say. */

const NEEDED = 'rootmode=40000,user_id=0,group_id=0';
const ENOSYS = -38;
const KIB = 1024;
const MAX_WRITE = 64 * KIB;
/** `fuse_in_header` and `fuse_write_in`, before the data of a WRITE; and FUSE_MIN_READ_BUFFER. Bytes. */
const BEFORE_DATA = 40 + 40;
const LEAST_ROOM = 8 * KIB;
/** Offsets in `fuse_init_out`. */
const AT = { maxBackground: 16, congestionThreshold: 18, maxWrite: 20 } as const;

interface Answer {
  readonly minor: number;
  readonly bytes: number;
  /** What of it counts: the room that a request needs, and the limits of requests in the background. */
  readonly room: number;
  readonly limits: readonly [background: number, congestion: number];
}

/** By what such an answer ends with. */
const TAKEN: Readonly<Record<string, Answer>> = {
  'the version, of protocol 7.4': { minor: 4, bytes: 8, room: LEAST_ROOM, limits: [12, 9] },
  'max_write, of protocol 7.22': {
    minor: 22,
    bytes: 24,
    room: MAX_WRITE + BEFORE_DATA,
    limits: [40, 7],
  },
  'max_write, of a newer protocol': {
    minor: 31,
    bytes: 24,
    room: MAX_WRITE + BEFORE_DATA,
    limits: [40, 7],
  },
  'the version, of a newer protocol': { minor: 31, bytes: 8, room: LEAST_ROOM, limits: [12, 9] },
  everything: { minor: 31, bytes: 64, room: MAX_WRITE + BEFORE_DATA, limits: [40, 7] },
};

/** `fuse_init_out` with limits that are not the default, and room for more than there is. */
function answerOf(minor: number, bytes: number): Uint8Array {
  const body = new Uint8Array(128);
  body.set(initBody(minor));
  const view = new DataView(body.buffer);
  view.setUint16(AT.maxBackground, 40, true);
  view.setUint16(AT.congestionThreshold, 7, true);
  view.setUint32(AT.maxWrite, MAX_WRITE, true);
  return body.subarray(0, bytes);
}

guestTest(
  'an answer to INIT may end where that of an older protocol did, and what it has not is the default (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { minor, bytes, room, limits }] of Object.entries(TAKEN)) {
      await using server = await guest.client();
      const device = await server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
      const request = { source: 'by-hand', type: 'fuse', options: `fd=${device},${NEEDED}` };
      await using mount = await guest.mount(request, server);
      const init = await nextRequest(server, device);
      t.is(init.opcode, Opcode.INIT, what);
      const body = answerOf(minor, bytes);
      t.is(await answerRequest(server, device, { unique: init.unique, body }), 'ok', `up to ${what}`);
      t.is(await server.errno.read({ fd: device, count: room - 1 }), 'EINVAL', `${what}: too little room`);
      t.is(await server.errno.read({ fd: device, count: room }), 'EAGAIN', `${what}: room for a request`);
      const { minor: connection } = await mountedAt(client, mount.path);
      const directory = `/sys/fs/fuse/connections/${connection}`;
      const limit = async (name: string): Promise<number> =>
        Number(text(await client.readFile({ path: `${directory}/${name}` })));
      t.deepEqual(
        [await limit('max_background'), await limit('congestion_threshold')],
        limits,
        `${what}: the limits of requests in the background`,
      );
      const calling = client.errno.statfs({ path: mount.path });
      const { opcode, unique } = await nextRequest(server, device);
      t.is(opcode, Opcode.STATFS, `${what}: the mount is used`);
      await answerRequest(server, device, { unique, error: ENOSYS });
      t.is(await calling, 'ENOSYS', what);
    }
  },
);

guestTest(
  'an answer to INIT that is longer than the kernel knows or has no version makes no connection (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [bytes, errno] of [
      [72, 'EINVAL'],
      [65, 'EINVAL'],
      [0, 'ok'],
    ] as const) {
      await using server = await guest.client();
      const device = await server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
      const request = { source: 'by-hand', type: 'fuse', options: `fd=${device},${NEEDED}` };
      await using mount = await guest.mount(request, server);
      const { unique } = await nextRequest(server, device);
      const body = answerOf(31, bytes);
      t.is(await answerRequest(server, device, { unique, body }), errno, `${bytes} bytes`);
      t.is(await client.errno.statfs({ path: mount.path }), 'ECONNREFUSED', `${bytes} bytes: a call`);
    }
  },
);
