import type { ClientInfo, Session, SessionClient } from "@sessiond/client";
import type { SessionData } from "../register.js";

/** One of the user's sessions, as a page about the user's devices shows it. */
export interface Device extends ClientInfo {
  /** The session's id, which is no credential. */
  readonly id: string;
  /** Whether it is the session of the request. */
  readonly isCurrent: boolean;
  readonly createTime: Date;
  readonly lastAccessTime: Date;
}

/** The active sessions of the session's user, the newest first. */
export async function devicesOf(
  client: SessionClient<SessionData>,
  current: Session<SessionData>,
): Promise<Device[]> {
  const devices: Device[] = [];
  // The server's limit on a user's sessions bounds the list.
  for await (const session of client.listAllSessions({ userId: current.userId })) {
    const { id, createTime, lastAccessTime } = session;
    devices.push({
      ...session.client,
      id,
      isCurrent: id === current.id,
      createTime,
      lastAccessTime,
    });
  }
  return devices.sort((a, b) => b.createTime.getTime() - a.createTime.getTime());
}
