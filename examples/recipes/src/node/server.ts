// region server
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { RequestSession } from "@sessiond/web";
import { sessionErrors, sessions } from "@sessiond/web/express";
import { client, formOf, userWith } from "../yours.js";

const openSession = sessions({ client });
const answerError = sessionErrors();

createServer((request, response) => {
  const fail = (error: unknown) =>
    answerError(error, request, response, () => {
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  openSession(request, response, (error) => {
    if (error === undefined) serve(request as Request, response).catch(fail);
    else fail(error);
  });
}).listen(process.env["PORT"] ?? 3000);

type Request = IncomingMessage & { sessiond: RequestSession };
async function serve(request: Request, response: ServerResponse): Promise<void> {
  if (request.method === "POST") {
    const { name, password } = await formOf(request);
    const login = await request.sessiond.attemptLogin(name, () => userWith(name, password));
    response.writeHead(login === undefined ? 401 : 204).end();
  } else {
    response.end(`hello, ${(await request.sessiond.require()).userId}`);
  }
}
// endregion
