// region main
import "reflect-metadata";
import { NestFactory } from "@nestjs/core";
import { sessions } from "@sessiond/web/express";
import { client } from "../yours.js";
import { AppModule } from "./app.module.js";
import { SessionErrors } from "./session.guard.js";

const app = await NestFactory.create(AppModule);
app.use(sessions({ client }));
app.useGlobalFilters(new SessionErrors());
await app.listen(process.env["PORT"] ?? 3000);
// endregion
